//! Logs of invocations and deployments, from CSV files.
