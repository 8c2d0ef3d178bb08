"""Public data sets by name: `catalog.toml` describes them, loaders make files for `precedent learn` of each layout."""
