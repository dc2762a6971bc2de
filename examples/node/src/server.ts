// A page, and an address for the health check.
import express, { type Request, type Response } from "express";
import { greeting } from "./greeting.js";

const app = express();

app.get("/", (request: Request, response: Response) => {
  response.type("text").send(greeting(String(request.query.name ?? "world")));
});

app.get("/health", (_request: Request, response: Response) => {
  response.json({ status: "ok" });
});

const server = app.listen(Number(process.env.PORT ?? 8080), () => console.log("ready"));

// Process 1 of a container gets no default handlers for signals.
process.on("SIGTERM", () => server.close());
