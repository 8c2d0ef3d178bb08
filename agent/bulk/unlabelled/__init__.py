"""The first look at records without labels: their templates as events, ranked by how unusual they are."""
