"""The frame of a run: settings, command line, training, report, pictures."""
