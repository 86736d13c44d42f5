// Signatures of https://developer.android.com/reference/android/content/res/AssetManager, for assets
// that are files of a directory.
package android.content.res;

import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;

public final class AssetManager {
    private final File root;

    public AssetManager(File root) {
        this.root = root;
    }

    public String[] list(String path) throws IOException {
        String[] names = new File(root, path).list();
        return names == null ? new String[0] : names;
    }

    public AssetFileDescriptor openFd(String name) throws IOException {
        return new AssetFileDescriptor(new FileInputStream(new File(root, name)));
    }
}
