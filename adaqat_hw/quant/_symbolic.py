"""A network as a graph of operations, the same in training and in evaluation."""

from __future__ import annotations

import linecache
from pathlib import Path
from types import TracebackType

import torch
from torch import fx, nn

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant._attention import MultiheadAttention
from adaqat_hw.quant._nodes import LAYERS
from adaqat_hw.quant._quantizer_placement import free_name
from adaqat_hw.quant._rewrite import copy_network, rewrite
from adaqat_hw.quant.matmul import MatMul

_NOT_THE_USERS = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
_REMEDY = (
    "a random drop of whole samples cannot be quantized: set its probability to 0 or replace its "
    "module by nn.Identity, and use modules such as Dropout in place of branches on self.training."
)


def symbolic(net: nn.Module) -> tuple[fx.GraphModule, list[str]]:
    """Return a traced copy of a network and notes about what was rewritten in it.

    Raises:
        ConfigError: it cannot be traced, is quantized already, or does something else in training
            than in evaluation.
    """
    for path, part in net.named_modules():
        if type(part).__module__.split(".")[0] == "brevitas":
            raise ConfigError(
                f"Module {path!r} is already quantized ({type(part).__name__}); pass the float "
                "network."
            )
    name = type(net).__name__
    root, notes = rewrite(copy_network(net))
    graphs = {training: _graph(root, name, training) for training in (False, True)}
    _require_equal(graphs[False], graphs[True], name)
    # The training graph, because functional dropout keeps the mode it was traced in.
    module = fx.GraphModule(root, graphs[True], name)
    _functional_dropout(module)
    module.train(net.training)
    return module, notes


def one_line(exc: BaseException) -> str:
    """Return the first line of an exception's text, or its type."""
    text = str(exc).strip()
    return text.splitlines()[0].rstrip(":") if text else type(exc).__name__


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Keep layers whole that merely subclass torch's without a forward of their own."""
        layer = any(isinstance(m, k) and type(m).forward is k.forward for k in (*LAYERS, MatMul))
        return layer or super().is_leaf_module(m, module_qualified_name)


def _graph(root: nn.Module, name: str, training: bool) -> fx.Graph:
    """Trace in one mode; evaluation comes first."""
    root.train(training)
    try:
        graph = _Tracer().trace(root)
    except ConfigError:
        raise
    except Exception as exc:
        place, owner = _place(exc.__traceback__, root, name)
        if training:
            raise ConfigError(
                f"{owner} computes something else in training than in evaluation, which cannot be "
                f"traced ({place}{one_line(exc)}); {_REMEDY}"
            ) from exc
        raise ConfigError(
            f"Network {name!r} cannot be traced ({place}{one_line(exc)}); its forward must not "
            "branch on values of tensors."
        ) from exc
    for node in reversed(graph.nodes):  # attention's weights where nobody asked for them
        stack = list(node.meta.get("nn_module_stack", {}).values())
        if stack and stack[-1][1] is MultiheadAttention and not node.users:
            graph.erase_node(node)
    return graph


def _require_equal(evaluated: fx.Graph, trained: fx.Graph, name: str) -> None:
    nodes = list(evaluated.nodes), list(trained.nodes)
    differ = (
        pair
        for pair in zip(*nodes, strict=False)  # both end in an output
        if (pair[0].op, str(pair[0].target)) != (pair[1].op, str(pair[1].target))
    )
    pair = next(differ, None)
    if pair is None:
        return
    # Where training alone has more to do, evaluation has left the module already.
    stack = max(_holders(pair[1]), _holders(pair[0]), key=len)
    path, kind = stack[-1] if stack else ("", None)
    owner = f"Module {path!r} ({kind.__name__})" if path and kind else f"Network {name!r}"
    raise ConfigError(
        f"{owner} computes something else in training ({_operation(pair[1])!r}) than in "
        f"evaluation ({_operation(pair[0])!r}); {_REMEDY}"
    )


def _holders(node: fx.Node) -> list[tuple[str, type]]:
    """Return path and class of the modules whose forward makes ``node``, from outside in."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return stack[:-1] if node.op == "call_module" else stack


def _operation(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target))


def _place(trace: TracebackType | None, root: nn.Module, name: str) -> tuple[str, str]:
    """Return the user's line that an exception comes from, and the module that it belongs to."""
    place, owner = "", f"Network {name!r}"
    paths = {module: path for path, module in root.named_modules()}
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith((*_NOT_THE_USERS, "<")):
            text = linecache.getline(code.co_filename, trace.tb_lineno).strip()
            shown = f" {text!r}" if text else ""
            place = f"line {trace.tb_lineno} of {Path(code.co_filename).name}{shown}: "
        holder = trace.tb_frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        path = paths.get(holder) if isinstance(holder, nn.Module) else None
        if path:
            owner = f"Module {path!r} ({type(holder).__name__})"
        trace = trace.tb_next
    return place, owner


def _functional_dropout(module: fx.GraphModule) -> None:
    """Make functional dropout a module, so that it follows ``train()`` and ``eval()``."""
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target is not nn.functional.dropout:
            continue
        arguments = dict(zip(("input", "p", "training", "inplace"), node.args, strict=False))
        arguments.update(node.kwargs)
        if arguments.get("training", True) is not True:
            continue
        path = free_name(module, node.name)
        module.add_submodule(path, nn.Dropout(arguments.get("p", 0.5)))
        with module.graph.inserting_before(node):
            fresh = module.graph.call_module(path, (arguments["input"],))
        node.replace_all_uses_with(fresh)
        module.graph.erase_node(node)
    module.recompile()
