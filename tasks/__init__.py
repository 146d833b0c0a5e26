"""Thin Prefect tasks around the pipeline's steps: cache keys, retries, run names. Paths in, paths out."""

from imgrec.conf.environment import prepare_environment

prepare_environment()
