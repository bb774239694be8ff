mock_provider "google" {
  mock_resource "google_service_account" {
    defaults = {
      name   = "projects/acme-prod/serviceAccounts/nightly-node@acme-prod.iam.gserviceaccount.com"
      email  = "nightly-node@acme-prod.iam.gserviceaccount.com"
      member = "serviceAccount:nightly-node@acme-prod.iam.gserviceaccount.com"
    }
  }
  mock_resource "google_compute_instance_template" {
    defaults = {
      self_link_unique = "https://www.googleapis.com/compute/v1/projects/acme-prod/global/instanceTemplates/t?uniqueId=1"
    }
  }
  mock_resource "google_project_iam_custom_role" {
    defaults = { id = "projects/acme-prod/roles/preprov" }
  }
}

variables {
  name            = "nightly"
  project         = "acme-prod"
  region          = "europe-west1"
  subnetwork      = "https://www.googleapis.com/compute/v1/projects/acme-prod/regions/europe-west1/subnetworks/nodes"
  source_image    = "projects/acme-prod/global/images/family/nodes"
  observe_members = ["serviceAccount:reader@acme-prod.iam.gserviceaccount.com"]
  act_members     = ["serviceAccount:preprov@acme-prod.iam.gserviceaccount.com"]
  groups = {
    stopped = {
      zone      = "europe-west1-b"
      standby   = "stopped"
      max_nodes = 10
      offering  = { type = "n2-standard-2", cpu = 2, memory = 8 }
    }
    quick = {
      zone      = "europe-west1-c"
      standby   = "hibernated"
      max_nodes = 5
      offering  = { type = "n2-standard-2", cpu = 2, memory = 8 }
    }
    burst = {
      zone      = "europe-west1-b"
      max_nodes = 20
      spot      = true
      offering  = { type = "n2-standard-4", cpu = 4, memory = 16 }
    }
  }
}

run "one_vendor_group_per_standby_state" {
  variables {
    counts = { stopped = { running = 1, standby = 3 }, quick = { standby = 2 } }
  }
  assert {
    condition     = toset(keys(google_compute_instance_group_manager.preprov)) == toset(["stopped", "quick", "burst"]) && length(google_compute_instance_group_manager.terraform) == 0
    error_message = "preprov owns the counts unless it is said otherwise."
  }
  assert {
    condition     = google_compute_instance_group_manager.preprov["stopped"].target_size == 1 && google_compute_instance_group_manager.preprov["stopped"].target_stopped_size == 3 && google_compute_instance_group_manager.preprov["stopped"].target_suspended_size == 0
    error_message = "Standby of a stopped group is stopped."
  }
  assert {
    condition     = google_compute_instance_group_manager.preprov["quick"].target_suspended_size == 2 && google_compute_instance_group_manager.preprov["quick"].target_stopped_size == 0
    error_message = "Standby of a hibernated group is suspended."
  }
  assert {
    condition     = google_compute_instance_group_manager.preprov["burst"].target_stopped_size == 0 && google_compute_instance_group_manager.preprov["burst"].target_suspended_size == 0
    error_message = "A group without standby keeps none."
  }
  assert {
    condition     = alltrue([for g in google_compute_instance_group_manager.preprov : g.standby_policy[0].mode == "MANUAL"])
    error_message = "Nothing but preprov puts a node to sleep or wakes one."
  }
  assert {
    condition     = alltrue([for g in google_compute_instance_group_manager.preprov : g.update_policy[0].type == "OPPORTUNISTIC" && g.instance_lifecycle_policy[0].default_action_on_failure == "DO_NOTHING"])
    error_message = "Nothing but preprov replaces a node."
  }
  assert {
    condition     = { for g in output.preprov_pool.groups : g.name => g.states } == { stopped = ["running", "stopped"], quick = ["running", "hibernated"], burst = ["running"] }
    error_message = "The output says what each group keeps."
  }
  assert {
    condition     = alltrue([for g in output.preprov_pool.groups : g.options.mig == "nightly-${g.name}" && g.options.project == "acme-prod"])
    error_message = "The output says where each group is."
  }
}

run "nodes_are_private_and_shielded" {
  assert {
    condition     = alltrue([for t in google_compute_instance_template.this : length(t.network_interface[0].access_config) == 0])
    error_message = "There are no public addresses unless they are asked for."
  }
  assert {
    condition     = alltrue([for t in google_compute_instance_template.this : t.shielded_instance_config[0].enable_secure_boot && t.metadata["block-project-ssh-keys"] == "TRUE"])
    error_message = "Nodes boot what is signed, and the project's keys open none."
  }
  assert {
    condition     = alltrue([for n, t in google_compute_instance_template.this : t.labels["preprov-pool"] == "nightly" && t.labels["preprov-group"] == n])
    error_message = "Every node says whose it is."
  }
  assert {
    condition     = alltrue([for t in google_compute_instance_template.this : length(t.disk[0].disk_encryption_key) == 0])
    error_message = "Disks are encrypted with Google's key unless another is given."
  }
}

run "addresses_and_keys_where_they_are_asked_for" {
  variables {
    public_addresses = true
    kms_key          = "projects/acme-prod/locations/europe-west1/keyRings/r/cryptoKeys/k"
  }
  assert {
    condition     = alltrue([for t in google_compute_instance_template.this : length(t.network_interface[0].access_config) == 1])
    error_message = "public_addresses gives each node one."
  }
  assert {
    condition     = alltrue([for t in google_compute_instance_template.this : t.disk[0].disk_encryption_key[0].kms_key_self_link == var.kms_key])
    error_message = "kms_key encrypts the disks."
  }
}

run "spot_is_a_group_of_its_own" {
  assert {
    condition     = google_compute_instance_template.this["burst"].scheduling[0].provisioning_model == "SPOT" && google_compute_instance_template.this["burst"].scheduling[0].preemptible && !google_compute_instance_template.this["burst"].scheduling[0].automatic_restart
    error_message = "A spot node is not started again by Google."
  }
  assert {
    condition     = google_compute_instance_template.this["burst"].scheduling[0].instance_termination_action == "DELETE"
    error_message = "A spot node that is taken away leaves nothing behind."
  }
  assert {
    condition     = alltrue([for n in ["stopped", "quick"] : google_compute_instance_template.this[n].scheduling[0].provisioning_model == "STANDARD" && google_compute_instance_template.this[n].scheduling[0].on_host_maintenance == "MIGRATE"])
    error_message = "The other groups are on demand."
  }
  assert {
    condition     = { for g in output.preprov_pool.groups : g.name => g.offerings[0].capacity_type } == { stopped = "on_demand", quick = "on_demand", burst = "spot" }
    error_message = "The output says which is which."
  }
}

run "terraform_owns_the_counts" {
  variables {
    counts_owner = "terraform"
    counts       = { stopped = { running = 2, standby = 3 } }
  }
  assert {
    condition     = length(google_compute_instance_group_manager.preprov) == 0 && google_compute_instance_group_manager.terraform["stopped"].target_size == 2
    error_message = "Counts come from the variable."
  }
  assert {
    condition     = google_compute_instance_group_manager.terraform["stopped"].target_stopped_size == 3
    error_message = "So does the standby."
  }
  assert {
    condition     = length(google_project_iam_member.act_group) == 0 && length(google_project_iam_member.act_node) == 1
    error_message = "preprov moves no group then; it leaves notes on machines."
  }
  assert {
    condition     = output.preprov_pool.counts_owner == "terraform" && output.preprov_pool.counts_variable == "preprov_counts"
    error_message = "The output says whose the counts are."
  }
}

run "roles_grant_what_is_called_and_no_more" {
  variables {
    bake_images = true
  }
  assert {
    condition     = toset(google_project_iam_custom_role.observe.permissions) == toset(jsondecode(file("rights.json")).observe)
    error_message = "observe has the reads and nothing else."
  }
  assert {
    condition     = toset(concat(tolist(google_project_iam_custom_role.act_group.permissions), tolist(google_project_iam_custom_role.act_node.permissions), tolist(google_project_iam_custom_role.act_image[0].permissions))) == toset(flatten(values(jsondecode(file("rights.json")).act)))
    error_message = "The roles to act have the writes of the list and nothing else."
  }
  assert {
    condition     = length(google_project_iam_member.observe) == 2 && toset(keys(google_project_iam_member.act_group)) == var.act_members && toset(keys(google_project_iam_member.act_image)) == var.act_members
    error_message = "Who acts also looks; who looks does not act."
  }
  assert {
    condition = alltrue([
      for m in google_project_iam_member.act_node : alltrue([for n in keys(var.groups) : strcontains(m.condition[0].expression, "'nightly-${n}-'")])
    ])
    error_message = "Notes are left on machines of this pool alone."
  }
}

run "no_images_unless_they_are_asked_for" {
  assert {
    condition     = length(google_project_iam_custom_role.act_image) == 0 && length(google_project_iam_member.act_image) == 0
    error_message = "Images are made by preprov only where bake_images says so."
  }
}

run "nobody_acts_unless_somebody_may" {
  variables {
    observe_members = []
    act_members     = []
  }
  assert {
    condition     = length(google_project_iam_member.observe) + length(google_project_iam_member.act_group) + length(google_project_iam_member.act_node) + length(google_service_account_iam_member.node) == 0
    error_message = "No role is given to nobody."
  }
}

run "what_was_taken_away_cannot_be_woken" {
  command = plan
  variables {
    groups = {
      stopped = { zone = "europe-west1-b", standby = "stopped", max_nodes = 1, spot = true, offering = { type = "n2-standard-2", cpu = 2, memory = 8 } }
    }
  }
  expect_failures = [var.groups]
}

run "gpus_are_not_suspended" {
  command = plan
  variables {
    groups = {
      quick = { zone = "europe-west1-b", standby = "hibernated", max_nodes = 1, offering = { type = "g2-standard-4", cpu = 4, memory = 16, gpu = 1 } }
    }
  }
  expect_failures = [var.groups]
}

run "a_zone_of_another_region_is_refused" {
  command = plan
  variables {
    groups = {
      stopped = { zone = "us-east1-b", max_nodes = 1, offering = { type = "n2-standard-2", cpu = 2, memory = 8 } }
    }
  }
  expect_failures = [var.groups]
}

run "more_nodes_than_a_group_may_have_are_refused" {
  command = plan
  variables {
    counts = { quick = { running = 3, standby = 3 } }
  }
  expect_failures = [var.counts]
}

run "standby_of_a_group_without_is_refused" {
  command = plan
  variables {
    counts = { burst = { standby = 1 } }
  }
  expect_failures = [var.counts]
}

run "another_owner_is_refused" {
  command = plan
  variables {
    counts_owner = "somebody"
  }
  expect_failures = [var.counts_owner]
}

run "anybody_is_refused" {
  command = plan
  variables {
    act_members = ["allUsers"]
  }
  expect_failures = [var.act_members]
}

run "our_labels_are_ours" {
  command = plan
  variables {
    labels = { "preprov-pool" = "other" }
  }
  expect_failures = [var.labels]
}
