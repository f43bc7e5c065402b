"""Where runs go: one file a kind of target, over one small protocol (:mod:`mlnb.targets.base`)."""
