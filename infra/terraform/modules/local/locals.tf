locals {
  counts = { for n in keys(var.groups) : n => lookup(var.counts, n, { running = 0, standby = 0 }) }
}
