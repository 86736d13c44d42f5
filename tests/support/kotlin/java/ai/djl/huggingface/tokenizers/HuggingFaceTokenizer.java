// The methods of DJL's binding that the Kotlin starter calls, with the same signatures. They ask the
// library that it wraps, by its Python package: $TOKENIZERS_PYTHON.
// https://github.com/deepjavalibrary/djl/tree/master/extensions/tokenizers
package ai.djl.huggingface.tokenizers;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;
import java.util.stream.Stream;

public final class HuggingFaceTokenizer implements AutoCloseable {
    // As DJL reads its options: lengths of the file, no more than 512, unless others are given.
    private static final String SCRIPT =
            "import sys, tokenizers; t = tokenizers.Tokenizer.from_file(sys.argv[1]); "
                    + "most = min(int(sys.argv[3]), int(sys.argv[4])); t.enable_truncation(most); "
                    + "print(*t.encode(sys.argv[2]).ids)";
    private final Path path;
    private final Map<String, String> options;

    private HuggingFaceTokenizer(Path path, Map<String, String> options) {
        this.path = path;
        this.options = options;
    }

    public static HuggingFaceTokenizer newInstance(Path modelPath, Map<String, String> options)
            throws IOException {
        if (!options.get("padding").equals("false")) throw new IOException("it would pad");
        return new HuggingFaceTokenizer(modelPath, options);
    }

    public Encoding encode(String text) {
        String python = System.getenv("TOKENIZERS_PYTHON");
        String most = options.get("maxLength"), modelMost = options.get("modelMaxLength");
        try {
            Process process =
                    new ProcessBuilder(python, "-c", SCRIPT, path.toString(), text, most, modelMost)
                            .redirectError(ProcessBuilder.Redirect.INHERIT)
                            .start();
            String[] ids = new String(process.getInputStream().readAllBytes()).trim().split(" ");
            return new Encoding(Stream.of(ids).mapToLong(Long::parseLong).toArray());
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
    }

    @Override
    public void close() {}
}
