# SCRAM by the contract of server_proof, as the engine sees it, whatever usasl.scram can do: a server's proof that is
# missing, after ours went out, is forgiven once ("reauth", `proof_due`) or always ("skip").
from usasl.scram import ScramSHA256


class Late(ScramSHA256):
    def __init__(self, user, password=None, server_proof="reauth", **more):
        super().__init__(user, password, **more)
        self.server_proof = server_proof
        self.proof_due = None  # the engine sets it

    def exchange(self):
        inner = super().exchange()
        value = None
        said = 0
        while True:
            try:
                out = inner.send(value)
            except StopIteration:
                return
            value = yield out
            if out is not None:
                said += 1
                if said == 2 and not value and self.server_proof != "require":
                    self.proof_due = self.server_proof == "reauth"
                    return
