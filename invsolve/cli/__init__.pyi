from .app import Commands as Commands
from .app import exit_code as exit_code
from .app import main as main
from .app import message as message
from .app import plugin_commands as plugin_commands
from .kinds import Kind as Kind
