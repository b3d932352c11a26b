"""Adapters: every tool call that an agent framework shows at any of its hooks, in the log.

Each is a module of its own, which needs its framework; this package needs none of them.

* ``openai_agents``: ``AuditHooks``, for ``Runner.run(hooks=…)``
* ``langchain``: ``AuditHandler``, for ``config={"callbacks": […]}``; LangGraph too
* ``pydantic_ai``: ``AuditCapability``, for ``Agent(capabilities=[…])``
* ``fastmcp``: ``AuditMiddleware``, for ``FastMCP.add_middleware(…)``
* ``google_adk``: ``AuditPlugin``, for ``Runner(plugins=[…])``
* ``claude_agent_sdk``: ``AuditHooks``, for ``ClaudeAgentOptions(hooks=….hooks())``
* ``agent_framework`` (Microsoft's): ``AuditMiddleware``, for ``Agent(middleware=….middleware())``
* ``smolagents``: ``audited(agent, log)``

Who starts the calls, and to which conversation they belong, is said by ``attestlog.session`` around the run, by the adapter's
``user_id`` and ``conversation_id``, or by the framework, the first that says it. A call for which nobody names a user is not made. All
other members of a call that are given to an adapter (``agent_id``, ``model``, ``purpose``, ``session_metadata``…) are used where the
framework says nothing.
"""
