"""A DemandCurve, prices and lead times become a CapacityPlan of actions that explain themselves."""
