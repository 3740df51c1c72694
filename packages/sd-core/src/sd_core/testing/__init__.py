"""For authors of plugins: the contracts as test classes (`contracts`), worlds with known answers
(`exact`). Needs the extra: `pip install "sd-core[testing]"`.
"""
