"""Tests of embedders/compression."""
