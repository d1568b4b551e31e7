// A gRPC server on a free port of 127.0.0.1: `who.mjs NAME PROTO FOLDER`, with the file that describes `Who` and the folder of the
// packages. It prints the port, and names itself in every answer, thrice in a stream, and in the trailers.
import { createRequire } from "node:module";

const [name, proto, packages] = process.argv.slice(2);
const require = createRequire(`${packages}/`);
const grpc = require("@grpc/grpc-js");
const { loadSync } = require("@grpc/proto-loader");
const { Who } = grpc.loadPackageDefinition(loadSync(proto)).mooring.example;

const trailers = () => {
  const metadata = new grpc.Metadata();
  metadata.set("x-served-by", name);
  return metadata;
};

function begin(call) {
  const { action, fail } = call.request;
  const metadata = new grpc.Metadata();
  if (action) metadata.set("x-mooring-action", action);
  if (!fail) call.sendMetadata(metadata);
  return fail && { code: grpc.status.FAILED_PRECONDITION, details: "asked to fail", metadata: trailers() };
}

const server = new grpc.Server();
server.addService(Who.service, {
  serves(call, respond) {
    const failure = begin(call);
    respond(failure || null, { host: name }, trailers());
  },
  watch(call) {
    const failure = begin(call);
    if (failure) return call.emit("error", failure);
    for (let at = 0; at < 3; at++) call.write({ host: name });
    call.end(trailers());
  },
});
server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(port);
});
