"""The small core: docs/program.md, one instruction after the other, microcoded."""
