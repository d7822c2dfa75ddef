"""The commands of the `gradgate` command line, one file each."""
