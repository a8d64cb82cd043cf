"""Names and shapes of a state dict after the model's own load hooks.

A module may rename, drop or duplicate the tensors that it gets: mmdet's ``SemiBaseDetector`` copies those of
a supervised detector to its student and its teacher. So names are compared where torch reads, after hooks.
"""

from collections import namedtuple
from contextlib import ExitStack
from typing import Any, Dict, List, Mapping, Tuple

from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import Tensor, nn

# The argument that torch passes to hooks that run after loading.
_Incompatible = namedtuple('_Incompatible', ['missing_keys', 'unexpected_keys'])


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside the wrappers that mmengine removes when it loads: DDP, test-time augmentation."""
    inner: Any = model
    while is_model_wrapper(inner) or isinstance(inner, BaseTTAModel):
        inner = inner.module
    return inner


def read_through_hooks(state_dict: Mapping[str, Tensor], model: nn.Module
                       ) -> Tuple[Dict[str, tuple], Dict[str, tuple]]:
    """Run a model's load hooks on a state dict, without loading it.

    Args:
        state_dict (Mapping[str, Tensor]): Weights. Not changed.
        model (nn.Module): The model. Its parameters and buffers are not changed.

    Returns:
        tuple: Shapes of the tensors of the state dict, by their names after the hooks, and of the tensors
        that the modules look for.
    """
    given: Dict[str, tuple] = {}
    wanted: Dict[str, tuple] = {}
    missing: List[str] = []
    unexpected: List[str] = []

    def read(module):
        own = {**module._parameters, **module._buffers}
        own = {name: value for name, value in own.items()
               if value is not None and name not in module._non_persistent_buffers_set}

        def hook(local, prefix, *_):
            for name, value in own.items():
                wanted[prefix + name] = tuple(value.shape)
                # Removed, so that torch has nothing to copy into the module.
                found = local.pop(prefix + name, None)
                if isinstance(found, Tensor):
                    given[prefix + name] = tuple(found.shape)
                else:
                    missing.append(prefix + name)

        return hook

    def visit(module, local, prefix):
        module = unwrapped(module)
        module._load_from_state_dict(local, prefix, {} if metadata is None else metadata.get(prefix[:-1], {}),
                                     True, [], unexpected, [])
        for name, child in module._modules.items():
            if child is not None:
                below = f'{prefix}{name}.'
                visit(child, {key: value for key, value in local.items() if key.startswith(below)}, below)
        # Such a hook of a module may declare some of its tensors optional.
        for after in module._load_state_dict_post_hooks.values():
            after(module, _Incompatible(missing, unexpected))
        shapes.update({key: value for key, value in local.items() if isinstance(value, Tensor)})

    metadata: Any = getattr(state_dict, '_metadata', None)
    shapes: Dict[str, Tensor] = {}
    with ExitStack() as stack:
        # The last hook of each module sees what the earlier ones have left.
        for module in {id(each): each for each in unwrapped(model).modules()}.values():
            stack.callback(module._register_load_state_dict_pre_hook(read(module)).remove)
        visit(model, dict(state_dict), '')
    given.update({name: tuple(shapes[name].shape) for name in unexpected if name in shapes})
    optional = set(wanted) - set(missing) - set(given)
    return given, {name: shape for name, shape in wanted.items() if name not in optional}
