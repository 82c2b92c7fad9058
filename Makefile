# make book   execute the chapters and build _build/html
# make test   lint, types and tests (builds the book first: its pages are tested)
# make pdf    the whole book as _build/pdf/physics-of-training.pdf
# make course   notebooks for students and instructors, with archives (_build/course)
# make sphinx   the same site without Jupyter Book (_build/sphinx/html)
# make check-notebooks   run both sets as Binder and Colab do
# make benchmark   measure all kernels next to their peers, in a quarter of an hour
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PLAIN := _build/sphinx/.venv
BENCH := _build/bench/.venv

.PHONY: book course test mutants pdf sphinx notebooks check-notebooks benchmark clean

book: $(VENV)/.installed
	$(BIN)/python book/_ext/build.py
	$(BIN)/python book/_ext/teach.py

# What a teacher takes along; make book does it, too, and adds the slides.
course: $(VENV)/.installed
	$(BIN)/python book/_ext/teach.py

# Files go to the workers in their order: the long ones begin with b and g.
test: book
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python book/_ext/lint_chapters.py
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --cov=fpbook --cov-report=term

# Breaks the physics in one place at a time: a test or a claim has to go red. Not part of CI.
mutants: $(VENV)/.installed
	$(BIN)/python tests/mutants.py

# The whole book on paper; needs a TeX, which it names if it is missing. Not part of CI.
pdf: $(VENV)/.installed
	$(BIN)/python book/_ext/pdf.py

# By the newest Sphinx, in an environment of its own; then compared with make book, if
# that has been built of the same files.
sphinx: $(PLAIN)/.installed
	$(PLAIN)/bin/python book/_ext/plain_sphinx.py
	$(PLAIN)/bin/python book/_ext/teach.py _build/sphinx
	$(PLAIN)/bin/python book/_ext/compare.py

# Notebooks beside the chapters, for Colab; made when the site is published.
notebooks: $(VENV)/.installed
	$(BIN)/python book/_ext/export.py

# The sets of the course in a new environment, each notebook on one core with 2 GB.
check-notebooks: $(VENV)/.installed
	$(BIN)/python book/_ext/clean_run.py

# In an environment of its own, with the peers; the page of benchmarks shows the run.
benchmark: $(BENCH)/.installed
	$(BENCH)/bin/python -m benchmarks

# uv prefers CPU builds of torch where an index offers them; where that index is out
# of reach, whatever satisfies the range is taken, local files first.
define install
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet uv
	VIRTUAL_ENV=$(1) UV_FIND_LINKS="$${UV_FIND_LINKS:-$$PIP_FIND_LINKS}" sh -c \
	  '$(1)/bin/uv pip install --compile-bytecode --torch-backend=cpu -e ".[$(2)]" || $(1)/bin/uv pip install --compile-bytecode -e ".[$(2)]"'
	touch $@
endef

$(VENV)/.installed: pyproject.toml
	$(call install,$(VENV),dev)

$(PLAIN)/.installed: pyproject.toml
	$(call install,$(PLAIN),sphinx)

$(BENCH)/.installed: pyproject.toml
	$(call install,$(BENCH),bench)

clean:
	rm -rf $(VENV) _build
