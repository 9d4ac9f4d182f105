"""The rules of the business, and the tables that keep them: what exists, which states it may be in, and what each command must carry.

The domain uses no network, no broker and no engine. It logs nothing and retries nothing; only `store.unit_of_work` commits.
"""
