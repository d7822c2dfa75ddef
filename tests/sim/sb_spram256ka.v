// The memory primitive of the iCE40UP5K as Lattice documents it (TN1314), for simulation. What it leaves open
// is junk: words at power-up, and DATAOUT after a write.
module SB_SPRAM256KA (
  input CLOCK, CHIPSELECT, WREN, STANDBY, SLEEP, POWEROFF,
  input [3:0] MASKWREN, input [13:0] ADDRESS, input [15:0] DATAIN,
  output reg [15:0] DATAOUT
);
  reg [15:0] words [0:16383];
  wire [15:0] mask = {{4{MASKWREN[3]}}, {4{MASKWREN[2]}}, {4{MASKWREN[1]}}, {4{MASKWREN[0]}}};

  always @(posedge CLOCK)
    if (STANDBY || SLEEP || !POWEROFF)
      DATAOUT <= 16'hdead;
    else if (CHIPSELECT && WREN) begin
      words[ADDRESS] <= (words[ADDRESS] & ~mask) | (DATAIN & mask);
      DATAOUT <= 16'hbeef;
    end else if (CHIPSELECT)
      DATAOUT <= words[ADDRESS];
endmodule
