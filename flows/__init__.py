"""What runs, in which order: one Prefect flow a file, and the command line."""

from imgrec.conf.environment import prepare_environment

prepare_environment()
