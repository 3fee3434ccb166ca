"""What the GitHub action and the GitLab template run: ``python -m git_theta_ext.cli.ci``."""
