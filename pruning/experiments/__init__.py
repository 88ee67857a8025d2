"""One module per chapter: `run(config)` makes one record, `configs(profile)` lists the runs."""
