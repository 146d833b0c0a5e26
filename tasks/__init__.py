"""The pipeline's steps, and who calls them: Prefect tasks (cache keys, retries, run names), or plain calls."""

from imgrec.conf.environment import prepare_environment

prepare_environment()
