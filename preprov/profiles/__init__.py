"""One task's behaviour: what it will use and for how long, learnt from the runs of its signature."""
