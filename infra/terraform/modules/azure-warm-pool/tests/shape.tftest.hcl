mock_provider "azurerm" {
  mock_resource "azurerm_user_assigned_identity" {
    defaults = {
      id           = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/nightly/providers/Microsoft.ManagedIdentity/userAssignedIdentities/nightly-node"
      principal_id = "22222222-2222-2222-2222-222222222222"
    }
  }
  mock_resource "azurerm_orchestrated_virtual_machine_scale_set" {
    defaults = {
      id = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/nightly/providers/Microsoft.Compute/virtualMachineScaleSets/s"
    }
  }
  mock_resource "azurerm_virtual_machine_scale_set_standby_pool" {
    defaults = {
      id = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/nightly/providers/Microsoft.StandbyPool/standbyVirtualMachinePools/p"
    }
  }
  mock_resource "azurerm_role_definition" {
    defaults = {
      role_definition_resource_id = "/subscriptions/11111111-1111-1111-1111-111111111111/providers/Microsoft.Authorization/roleDefinitions/33333333-3333-3333-3333-333333333333"
    }
  }
}

variables {
  name                      = "nightly"
  location                  = "westeurope"
  resource_group_name       = "nightly"
  resource_group_id         = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/nightly"
  subnet_id                 = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/v/subnets/nodes"
  network_security_group_id = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/net/providers/Microsoft.Network/networkSecurityGroups/nodes"
  source_image_id           = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/images/providers/Microsoft.Compute/galleries/g/images/nodes"
  admin_public_key          = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEe931o+ZiAHrOeyvwswZPxUp4KWQcvFb2B6hUB/OsFn nodes"
  observe_principals        = ["44444444-4444-4444-4444-444444444444"]
  act_principals            = ["55555555-5555-5555-5555-555555555555"]
  groups = {
    stopped = {
      standby   = "stopped"
      max_nodes = 10
      offering  = { type = "Standard_D2s_v5", cpu = 2, memory = 8 }
    }
    quick = {
      standby   = "running"
      max_nodes = 5
      offering  = { type = "Standard_D2s_v5", cpu = 2, memory = 8 }
    }
    burst = {
      max_nodes = 20
      spot      = true
      offering  = { type = "Standard_D4s_v5", cpu = 4, memory = 16 }
    }
  }
}

run "one_vendor_group_per_standby_state" {
  variables {
    counts = { stopped = { running = 1, standby = 3 }, quick = { standby = 2 } }
  }
  assert {
    condition     = toset(keys(azurerm_orchestrated_virtual_machine_scale_set.preprov)) == toset(["stopped", "quick", "burst"]) && length(azurerm_orchestrated_virtual_machine_scale_set.terraform) == 0
    error_message = "preprov owns the counts unless it is said otherwise."
  }
  assert {
    condition     = toset(keys(azurerm_virtual_machine_scale_set_standby_pool.preprov)) == toset(["stopped", "quick"]) && length(azurerm_virtual_machine_scale_set_standby_pool.terraform) == 0
    error_message = "A group without standby has no standby pool."
  }
  assert {
    condition     = azurerm_virtual_machine_scale_set_standby_pool.preprov["stopped"].virtual_machine_state == "Deallocated" && azurerm_virtual_machine_scale_set_standby_pool.preprov["quick"].virtual_machine_state == "Running"
    error_message = "Each group keeps its own standby state."
  }
  assert {
    condition     = azurerm_orchestrated_virtual_machine_scale_set.preprov["stopped"].instances == 1 && azurerm_virtual_machine_scale_set_standby_pool.preprov["stopped"].elasticity_profile[0].max_ready_capacity == 3 && azurerm_virtual_machine_scale_set_standby_pool.preprov["stopped"].elasticity_profile[0].min_ready_capacity == 3
    error_message = "A new group begins with its counts."
  }
  assert {
    condition     = { for g in output.preprov_pool.groups : g.name => g.states } == { stopped = ["running", "stopped"], quick = ["running", "hibernated"], burst = ["running"] }
    error_message = "The output says what each group keeps."
  }
  assert {
    condition     = { for g in output.preprov_pool.groups : g.name => try(g.options.standby_pool, null) } == { stopped = "nightly-stopped", quick = "nightly-quick", burst = null }
    error_message = "The output says where each standby pool is."
  }
  assert {
    condition     = alltrue([for g in output.preprov_pool.groups : g.options.scale_set == "nightly-${g.name}" && g.options.subscription == "11111111-1111-1111-1111-111111111111"])
    error_message = "The output says where each group is."
  }
}

run "nodes_are_private_and_encrypted" {
  assert {
    condition     = alltrue([for s in azurerm_orchestrated_virtual_machine_scale_set.preprov : length(s.network_interface[0].ip_configuration[0].public_ip_address) == 0])
    error_message = "There are no public addresses unless they are asked for."
  }
  assert {
    condition     = alltrue([for s in azurerm_orchestrated_virtual_machine_scale_set.preprov : s.encryption_at_host_enabled && s.os_profile[0].linux_configuration[0].disable_password_authentication])
    error_message = "Caches are encrypted too, and passwords open nothing."
  }
  assert {
    condition     = alltrue([for n, s in azurerm_orchestrated_virtual_machine_scale_set.preprov : s.tags["preprov:pool"] == "nightly" && s.tags["preprov:group"] == n])
    error_message = "Every node says whose it is."
  }
  assert {
    condition     = alltrue([for s in azurerm_orchestrated_virtual_machine_scale_set.preprov : s.termination_notification[0].enabled && s.network_interface[0].network_security_group_id == var.network_security_group_id])
    error_message = "An end is announced to the node, which is under its security group."
  }
}

run "addresses_where_they_are_asked_for" {
  variables {
    public_addresses = true
  }
  assert {
    condition     = alltrue([for s in azurerm_orchestrated_virtual_machine_scale_set.preprov : length(s.network_interface[0].ip_configuration[0].public_ip_address) == 1])
    error_message = "public_addresses gives each node one."
  }
}

run "spot_is_a_group_of_its_own" {
  assert {
    condition     = azurerm_orchestrated_virtual_machine_scale_set.preprov["burst"].priority == "Spot" && azurerm_orchestrated_virtual_machine_scale_set.preprov["burst"].eviction_policy == "Delete"
    error_message = "A spot node that is taken away leaves nothing behind."
  }
  assert {
    condition     = alltrue([for n in ["stopped", "quick"] : azurerm_orchestrated_virtual_machine_scale_set.preprov[n].priority == "Regular"])
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
    condition     = length(azurerm_orchestrated_virtual_machine_scale_set.preprov) == 0 && azurerm_orchestrated_virtual_machine_scale_set.terraform["stopped"].instances == 2
    error_message = "Counts come from the variable."
  }
  assert {
    condition     = length(azurerm_virtual_machine_scale_set_standby_pool.preprov) == 0 && azurerm_virtual_machine_scale_set_standby_pool.terraform["stopped"].elasticity_profile[0].max_ready_capacity == 3
    error_message = "So does the size of the standby pool."
  }
  assert {
    condition     = toset(azurerm_role_definition.act.permissions[0].actions) == toset(jsondecode(file("rights.json")).act.node)
    error_message = "preprov moves no group then; it leaves notes on nodes."
  }
  assert {
    condition     = length(azurerm_role_assignment.join_subnet) == 0 && length(azurerm_role_assignment.join_security_group) == 0
    error_message = "Nor does it put nodes into a subnet."
  }
}

run "roles_grant_what_is_called_and_no_more" {
  variables {
    bake_images = true
  }
  assert {
    condition     = toset(azurerm_role_definition.observe.permissions[0].actions) == toset(jsondecode(file("rights.json")).observe)
    error_message = "observe has the reads and nothing else."
  }
  assert {
    condition     = toset(concat(tolist(azurerm_role_definition.act.permissions[0].actions), tolist(azurerm_role_definition.join.permissions[0].actions))) == toset(flatten(values(jsondecode(file("rights.json")).act)))
    error_message = "act and join have the writes of the list and nothing else."
  }
  assert {
    condition     = azurerm_role_definition.act.scope == var.resource_group_id && alltrue([for a in azurerm_role_assignment.act : a.scope == var.resource_group_id])
    error_message = "Writes are narrowed to the pool's resource group."
  }
  assert {
    condition     = toset(keys(azurerm_role_assignment.observe)) == setunion(var.observe_principals, var.act_principals) && toset(keys(azurerm_role_assignment.act)) == var.act_principals
    error_message = "Who acts also looks; who looks does not act."
  }
  assert {
    condition     = toset(azurerm_role_definition.node.permissions[0].actions) == toset(jsondecode(file("rights.json")).agent)
    error_message = "A node writes its report and nothing else."
  }
}

run "no_images_unless_they_are_asked_for" {
  assert {
    condition     = length(setintersection(toset(azurerm_role_definition.act.permissions[0].actions), toset(jsondecode(file("rights.json")).act.image))) == 0
    error_message = "Images are made by preprov only where bake_images says so."
  }
}

run "nobody_acts_unless_somebody_may" {
  variables {
    observe_principals = []
    act_principals     = []
  }
  assert {
    condition     = length(azurerm_role_assignment.observe) + length(azurerm_role_assignment.act) + length(azurerm_role_assignment.join_subnet) + length(azurerm_role_assignment.join_security_group) == 0
    error_message = "No role is given to nobody."
  }
}

run "a_standby_pool_keeps_no_spot_nodes" {
  command = plan
  variables {
    groups = {
      stopped = { standby = "stopped", max_nodes = 1, spot = true, offering = { type = "Standard_D2s_v5", cpu = 2, memory = 8 } }
    }
  }
  expect_failures = [var.groups]
}

run "hibernated_pools_cannot_be_declared" {
  command = plan
  variables {
    groups = {
      quick = { standby = "hibernated", max_nodes = 1, offering = { type = "Standard_D2s_v5", cpu = 2, memory = 8 } }
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

run "a_zone_is_a_number" {
  command = plan
  variables {
    zones = ["westeurope-1"]
  }
  expect_failures = [var.zones]
}

run "a_password_is_no_key" {
  command = plan
  variables {
    admin_public_key = "secret"
  }
  expect_failures = [var.admin_public_key]
}

run "our_tags_are_ours" {
  command = plan
  variables {
    tags = { "preprov:pool" = "other" }
  }
  expect_failures = [var.tags]
}
