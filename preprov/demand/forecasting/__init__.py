"""The learnt part of demand: forest, naive and other members, aggregated online, calibrated, with joint samples."""
