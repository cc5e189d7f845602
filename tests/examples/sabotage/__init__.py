# SPDX-License-Identifier: Apache-2.0
"""`kubetls` with one protection switched off each, to see that the demo notices.

python -m examples.demo --server-command "python -m tests.examples.sabotage.no_domain_check"
"""
