// What cells of the ECP5 do, for simulation: those that LiteDRAM's Verilog uses.

module OFS1P3BX(input D, input PD, input SP, input SCLK, output reg Q);
  always @(posedge SCLK, posedge PD)
    if (PD) Q <= 1;
    else if (SP) Q <= D;
endmodule

module IFS1P3BX(input D, input PD, input SP, input SCLK, output reg Q);
  always @(posedge SCLK, posedge PD)
    if (PD) Q <= 1;
    else if (SP) Q <= D;
endmodule

module FD1S3BX(input D, input PD, input CK, output reg Q);
  always @(posedge CK, posedge PD)
    if (PD) Q <= 1;
    else Q <= D;
endmodule

module TRELLIS_IO #(parameter DIR = "BIDIR") (inout B, input I, input T, output O);
  assign B = T ? 1'bz : I;
  assign O = B;
endmodule
