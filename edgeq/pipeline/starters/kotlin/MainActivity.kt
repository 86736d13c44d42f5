// Runs the self-test, then the model on a few samples, and shows both.
package com.example.starter

import android.app.Activity
import android.os.Bundle
import android.widget.ScrollView
import android.widget.TextView
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.MainScope
import kotlinx.coroutines.cancel
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext

class MainActivity : Activity() {
    private val scope = MainScope()

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        val lines = TextView(this)
        setContentView(ScrollView(this).apply { addView(lines) })
        scope.launch {
            try {
                prove { lines.append("$it\n") }
            } catch (error: Exception) {
                lines.append(error.toString())
            }
        }
    }

    private suspend fun prove(say: (String) -> Unit) {
        val folder = withContext(Dispatchers.IO) { unpack(assets, filesDir) }
        Model.load(folder).use { model ->
            val failures = selfTest(model, folder, say)
            say(if (failures == 0) "all passed" else "$failures FAILED")
            model.show(Model.samples).forEach(say)
        }
    }

    override fun onDestroy() {
        scope.cancel()
        super.onDestroy()
    }
}
