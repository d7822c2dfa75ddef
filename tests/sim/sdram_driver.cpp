// The chip of sim/sdram.h by itself, for ctypes.
#include "sdram.h"

#include <cstring>

struct Cycle {
  uint32_t cke, code, ba, a, dm, driven, dq;  // code: ras, cas, we as 1 for active; 8: not selected
  uint32_t valid, read;                       // what the chip drives then
};

// Plays all cycles to a new chip; the first violation, or an empty text.
extern "C" const char *play(double clock_hz, Cycle *cycles, uint32_t count) {
  static char text[200];
  Sdram chip(clock_hz);
  for (uint32_t i = 0; i < count; i++) {
    Cycle &c = cycles[i];
    bool selected = c.code < 8;
    chip.clock({c.cke != 0, !selected, !(c.code & 4), !(c.code & 2), !(c.code & 1), c.ba, c.a, c.dm,
                c.driven != 0, uint16_t(c.dq)});
    c.valid = chip.driving, c.read = chip.dq;
  }
  return strncpy(text, chip.violation.c_str(), sizeof text - 1);
}
