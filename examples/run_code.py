"""Run code in a microVM: needs a server (emberkeep up --detach)."""

from emberkeep_sdk import Emberkeep

with Emberkeep() as ek, ek.launch("debian-12") as vm:
    print(vm.exec(["python3", "-c", "print(2**100)"]).stdout)
