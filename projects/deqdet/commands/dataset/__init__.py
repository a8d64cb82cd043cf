"""Commands for data sets: check one, make one."""
