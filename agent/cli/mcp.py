"""`precedent mcp`: the tools for other agents, on standard input and output."""

from __future__ import annotations

import signal

from agent.cli.options import ModelOption, open_context


def mcp(model: ModelOption = None) -> None:
    """Serve another agent as tools by the Model Context Protocol, on standard input and output.

    The agent's program starts this command. `precedent serve` has the same tools at /mcp.
    """
    import anyio

    from agent.api.mcp_server import serve_stdio
    from agent.core.logs import configure_logging
    from agent.core.tracing import tracing

    context = open_context(model)
    configure_logging(context.settings.log_level, context.settings.log_format)
    # the thread that reads standard input cannot be interrupted: Ctrl-C ends the process
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with tracing(context.settings.otlp_endpoint):
        anyio.run(serve_stdio, context)
    context.close()
