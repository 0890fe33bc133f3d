"""Networks as published: functions from sizes to a functional `keras.Model`."""
