# Rights come from rights.json alone, which is made from the list of calls in preprov's code.

resource "google_project_iam_custom_role" "observe" {
  project     = var.project
  role_id     = "preprov_observe_${local.role_id}"
  title       = "preprov observes ${var.name}"
  description = "Looks at managed instance groups and their machines, and writes nothing"
  permissions = local.rights.observe
}

resource "google_project_iam_custom_role" "act_group" {
  project     = var.project
  role_id     = "preprov_act_group_${local.role_id}"
  title       = "preprov acts on the groups of ${var.name}"
  description = "Makes, wakes, puts to sleep and ends machines of managed instance groups"
  permissions = local.rights.act.group
}

resource "google_project_iam_custom_role" "act_node" {
  project     = var.project
  role_id     = "preprov_act_node_${local.role_id}"
  title       = "preprov acts on the machines of ${var.name}"
  description = "Leaves notes on machines"
  permissions = local.rights.act.node
}

resource "google_project_iam_custom_role" "act_image" {
  count = var.bake_images ? 1 : 0

  project     = var.project
  role_id     = "preprov_act_image_${local.role_id}"
  title       = "preprov bakes images for ${var.name}"
  description = "Makes images of machines, templates that boot from them, and deletes old ones"
  permissions = local.rights.act.image
}

resource "google_project_iam_member" "observe" {
  for_each = setunion(var.observe_members, var.act_members)

  project = var.project
  role    = google_project_iam_custom_role.observe.id
  member  = each.key
}

# Compute Engine does not tell conditions the name of a managed instance group: these rights hold for the project.
resource "google_project_iam_member" "act_group" {
  for_each = var.counts_owner == "preprov" ? var.act_members : toset([])

  project = var.project
  role    = google_project_iam_custom_role.act_group.id
  member  = each.key
}

# Nor the labels of images and templates.
resource "google_project_iam_member" "act_image" {
  for_each = var.bake_images ? var.act_members : toset([])

  project = var.project
  role    = google_project_iam_custom_role.act_image[0].id
  member  = each.key
}

resource "google_project_iam_member" "act_node" {
  for_each = var.act_members

  project = var.project
  role    = google_project_iam_custom_role.act_node.id
  member  = each.key

  condition {
    title       = "machines of ${var.name}"
    description = "Only machines that the groups of this pool named"
    expression  = local.machines_only
  }
}

# To write notes on a machine one must be allowed to use the account it runs as.
resource "google_service_account_iam_member" "node" {
  for_each = var.act_members

  service_account_id = google_service_account.node.name
  role               = "roles/iam.serviceAccountUser"
  member             = each.key
}
