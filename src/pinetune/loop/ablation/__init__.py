"""Controls of a job: the same job with rewards that know nothing, with answers given, and with prompts alone."""
