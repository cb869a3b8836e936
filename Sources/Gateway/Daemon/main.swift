// The daemon's entry: see the library beside this folder.
