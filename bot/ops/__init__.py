"""What operators look at: log, metrics, health, doctor, dead letters."""
