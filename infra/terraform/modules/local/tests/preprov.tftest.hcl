variables {
  name         = "nightly"
  counts_owner = "preprov"
  groups = {
    quick = {
      standby   = "hibernated"
      max_nodes = 4
      offering  = { type = "small", cpu = 2, memory = 4 }
    }
  }
}

run "counts_hold_when_the_pool_is_made" {
  variables {
    counts = { quick = { running = 1, standby = 1 } }
  }

  assert {
    condition     = output.preprov_pool.groups[0].counts.standby == 1
    error_message = "The first count is applied."
  }
}

run "and_never_again" {
  variables {
    counts = { quick = { running = 1, standby = 3 } }
  }

  assert {
    condition     = output.preprov_pool.groups[0].counts.standby == 1
    error_message = "Where preprov owns the counts, Terraform changes none."
  }
}
