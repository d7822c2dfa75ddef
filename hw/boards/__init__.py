"""The boards, one file each: docs/boards.md says what is in it."""
