"""Networks as in their papers: functions from sizes to a functional `keras.Model`."""
