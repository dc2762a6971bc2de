package hello;

import java.io.IOException;
import java.io.InputStream;
import java.net.URI;

/** Asks the server of this container whether it is well; ends with an exception if it is not. */
public final class Check {
    private Check() {}

    public static void main(String[] arguments) throws IOException {
        try (InputStream body = URI.create("http://127.0.0.1:8080/health").toURL().openStream()) {
            body.readAllBytes();
        }
    }
}
