"""How good tracks are: the measures of the benchmarks, their folders, and the runs that they ask for."""
