"""The Git LFS protocol without input and output: what is sent, and what answers mean.

Source: ``docs/api`` and ``docs/spec.md`` of git-lfs, and the custom transfer of Hugging Face for large objects.
"""
