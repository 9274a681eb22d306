import pathlib

import rvrun


class HelloConfig(rvrun.PipelineConfig):
    names: tuple[str, ...] = ("Ada", "Grace", "Edsger", "Barbara")

    def build(self):
        return Hello(self)


class Hello(rvrun.Pipeline):
    commands = ("greet", "join")
    split_commands = ("greet",)

    def greet(self, split_ind, num_splits):
        for name in rvrun.share(self.config.names, split_ind, num_splits):
            self.file(name).write_text(f"Hello, {name}!\n")

    def join(self):
        for name in self.config.names:
            print(self.file(name).read_text(), end="")

    def file(self, name):
        folder = pathlib.Path(self.config.root_uri)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.txt"


def get_config(runner, root_uri="out/hello"):
    return HelloConfig(root_uri=root_uri)
