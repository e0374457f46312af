"""What outlives a process: objects, rows and vectors. Knows neither models nor queue nor web."""
