variables {
  name = "nightly"
  groups = {
    quick = {
      standby   = "hibernated"
      max_nodes = 4
      offering  = { type = "small", cpu = 2, memory = 4 }
    }
  }
}

run "terraform_owns_the_counts" {
  variables {
    counts_owner = "terraform"
    counts       = { quick = { running = 1, standby = 2 } }
  }

  assert {
    condition     = output.preprov_pool.groups[0].counts.standby == 2
    error_message = "A count that Terraform owns is applied."
  }
}

run "a_count_is_seen_to_change" {
  variables {
    counts_owner = "terraform"
    counts       = { quick = { running = 1, standby = 3 } }
  }

  assert {
    condition     = output.preprov_pool.groups[0].counts.standby == 3
    error_message = "A count that Terraform owns is applied again when it changes."
  }
}

run "no_group_of_that_name" {
  command = plan
  variables {
    counts = { other = { running = 1 } }
  }
  expect_failures = [var.counts]
}

run "more_than_the_group_may_have" {
  command = plan
  variables {
    counts = { quick = { running = 3, standby = 2 } }
  }
  expect_failures = [var.counts]
}

run "nobody_else_owns_counts" {
  command = plan
  variables {
    counts_owner = "me"
  }
  expect_failures = [var.counts_owner]
}
