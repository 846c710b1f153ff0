"""Dagster around the pipeline: assets, checks, jobs, schedules and sensors.

Thin on purpose. An asset reads its inputs, calls one function of a domain package, writes its
output and reports metadata; no arithmetic, no SQL, no rule of engagement belongs here.
"""
